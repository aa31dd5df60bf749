"""One screen a stage: Node, Plan, Config, Run, Doctor, Runs. It gets the session and hands its parts to widgets."""
