"""What quantities cost: price locks, list prices, re-pricing what was measured."""
