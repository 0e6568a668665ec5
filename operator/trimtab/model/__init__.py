"""The nouns that every room shares: frozen values, no behaviour beyond their own arithmetic, no I/O, no clock."""
