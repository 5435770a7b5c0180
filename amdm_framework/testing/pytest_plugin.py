"""What pytest does for the contract kit wherever the framework is installed. Imports nothing heavy."""
