"""The dashboard: what the pages share. A page asks by name; everything here may be slow once."""
