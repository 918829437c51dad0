"""Learn from the answer: MixMatch and the empirical vicinal risk. torch only."""
