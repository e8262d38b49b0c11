"""A face photo codec whose first bytes say who is in the picture."""
