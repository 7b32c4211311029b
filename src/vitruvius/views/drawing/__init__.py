"""How the drawing of an architecture is laid out: text is measured first, and everything else follows from it."""
