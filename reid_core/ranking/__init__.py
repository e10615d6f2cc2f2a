"""Who is nearer than whom: ranks of true matches, nearest neighbours, approximate search."""
