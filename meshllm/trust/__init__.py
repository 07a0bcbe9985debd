"""Pure: the signed form and who may do what."""
