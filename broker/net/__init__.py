"""The broker's side of TCP: connections, frames, replies in order. Knows no API but its key."""
