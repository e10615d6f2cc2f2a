"""Pictures to vectors, many at a time: what is named, streamed, mirrored, and resumed."""
