"""What a run's tickets teach: those that went wrong become reviewed cases of suites that grow."""
