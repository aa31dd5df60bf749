"""One screen a stage: Node, Plan, Config, Run, Doctor, Runs. A screen gets the session and hands its parts to widgets."""
