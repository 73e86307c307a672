from handrail_runtime.service import run_service

from handrail_agent_runner.main import PORT, main

run_service("agent-runner", PORT, main)
