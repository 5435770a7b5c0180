"""Drawing variants of one composition side by side: which strategy, which settings, which members."""
