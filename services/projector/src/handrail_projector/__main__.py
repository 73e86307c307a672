from handrail_runtime.service import run_service

from handrail_projector.main import PORT, main

run_service("projector", PORT, main)
