"""Who is who: whom an identifier means, and how people change that."""
