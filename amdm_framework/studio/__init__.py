"""The studio: one page in the browser for whatever models are installed."""
