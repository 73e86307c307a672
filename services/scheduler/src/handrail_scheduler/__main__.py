from handrail_runtime.service import run_service

from handrail_scheduler.main import PORT, main

run_service("scheduler", PORT, main)
