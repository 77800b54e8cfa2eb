"""Loads in, moves and a broker count out."""
