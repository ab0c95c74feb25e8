"""Bad input for clouds, flows, ratios, networks and training."""

TABLE = {}
ABSENT = {}
