"""What a bundle reaches in each of P5's families, beside what needs no model."""
