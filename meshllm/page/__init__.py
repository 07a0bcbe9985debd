"""The built chat page (not committed); served by signal and by gateway."""
