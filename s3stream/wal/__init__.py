"""The write-ahead log of a broker: see `README.md` in this folder."""
