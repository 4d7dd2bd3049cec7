"""Files that other libraries brought, verified and used instead of a download."""
