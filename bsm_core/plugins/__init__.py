"""Plugins: the contract, discovery, loading, the registry of names, hooks, listing, scaffolding."""
