"""Plugins: the contract, discovery, the registry of names, hooks, listing, and writing new plugins."""
