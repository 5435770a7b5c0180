"""How several samples become one: a registry of strategies, one file each."""
