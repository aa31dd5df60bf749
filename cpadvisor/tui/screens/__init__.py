"""One screen a stage: Node, Plan, Config, Run. A screen gets the session and hands its parts to widgets."""
