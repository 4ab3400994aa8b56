"""What it takes to hear the same recordings with other people's transcribers, each in an environment of its own."""
