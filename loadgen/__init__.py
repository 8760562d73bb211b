"""Load: virtual clients that follow a seeded schedule and record everything they see."""
