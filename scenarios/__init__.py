"""scenarios: one TOML file per question a team asks, and the composition root that runs them."""
