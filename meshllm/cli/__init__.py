"""Click commands, a file per group: parse, call one room, print."""
