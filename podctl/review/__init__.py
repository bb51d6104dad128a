"""What a security team asks of a run: the answers, with what shows them, in a pack that is checked without a store."""
