"""What is wrong on this machine, in a config or with a run; each finding with evidence, effect and its mend."""
