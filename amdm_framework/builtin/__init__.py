"""The framework's own providers and strategies, registered through the same hooks as anybody's."""
