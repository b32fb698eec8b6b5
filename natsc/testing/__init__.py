"""What tests of natsc itself run on: an engine without sockets, oracles that are slow and obvious, a script runner.

Nothing of the server imports this package.
"""
