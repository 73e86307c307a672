from handrail_runtime.service import run_service

from handrail_approvals.main import PORT, main

run_service("approvals", PORT, main)
