"""The signaling server: it introduces peers and reads nothing."""
