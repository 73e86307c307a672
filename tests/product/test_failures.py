"""What failures mean, seen from outside."""

from product.conftest import Api, agent, statuses, step


async def test_a_booking_is_undone_in_reverse_order(api: Api) -> None:
    execution = await api.run(
        agent("flight", "hotel", compensate_with="give-back-flight"),
        agent("hotel", "pay", compensate_with="give-back-hotel"),
        agent("pay", does="fail:400"),
        agent("give-back-flight", input="{{previous_output}}"),
        agent("give-back-hotel", input="{{steps.flight.output}}"),
    )
    assert execution["status"] == "failed"
    assert execution["error"]["code"] == "VALIDATION_ERROR"
    began = [event["step_id"] for event in await api.events(execution["id"]) if event["type"] == "step.started"]
    assert began == ["flight", "hotel", "pay", "give-back-hotel", "give-back-flight"]
    assert {found["step_id"]: found["result"] for found in execution["steps"]}["give-back-hotel"] == "flight"


async def test_a_failure_is_caught_or_passed_on(api: Api) -> None:
    execution = await api.run(
        agent("try", "use", does="fail:400", error_steps=["sorry"]),
        agent("use", "end"),
        agent("sorry", "end", input="{{previous_output.error.code}}"),
        agent("end", input="{{previous_output}}"),
    )
    assert (execution["status"], execution["result"]) == ("completed", "VALIDATION_ERROR")
    assert statuses(execution) == {"try": "failed", "use": "skipped", "sorry": "completed", "end": "completed"}


async def test_a_branch_may_fail_alone(api: Api) -> None:
    execution = await api.run(
        step("split", "parallel", "good", "bad", parameters={"error_policy": "ignore"}),
        agent("good", "join"), agent("bad", "join", does="fail:400"), agent("join", input="{{previous_output}}"),
    )  # fmt: skip
    assert (execution["status"], execution["result"]) == ("completed", "good")


async def test_a_failed_step_waits_for_a_person_who_is_told_why(api: Api) -> None:
    workflow_id = await api.workflow(
        agent("a", "b", does="fail:400", on_error="wait"), agent("b", input="{{previous_output}}")
    )
    execution_id = await api.start(workflow_id)
    await api.at(execution_id, "a", "blocked")
    told = await api.get(f"/executions/{execution_id}/why")
    assert "Step a failed (" in told["why"]
    assert "waits for somebody who retries or skips it" in told["why"]
    await api.post(f"/executions/{execution_id}/retry", {"reason": "it may have been bad luck"})
    await api.until(
        execution_id, lambda found: found["steps"][0]["attempt"] == 2 and found["steps"][0]["status"] == "blocked"
    )
    await api.post(f"/executions/{execution_id}/skip", {"step_id": "a", "output": "by hand", "reason": "phoned them"})
    execution = await api.ended(execution_id)
    assert (execution["status"], execution["result"]) == ("completed", "by hand")
    steered = [event for event in await api.events(execution_id) if event["type"] == "step.steered"]
    assert [(event["action"], event["by"], event["reason"]) for event in steered] == [
        ("retry", "ada", "it may have been bad luck"), ("skip", "ada", "phoned them"),
    ]  # fmt: skip


async def test_a_cancelled_execution_is_undone_and_a_terminated_one_is_not(api: Api) -> None:
    workflow_id = await api.workflow(
        agent("book", "wait", compensate_with="undo"), step("wait", "delay", parameters={"hours": 1}), agent("undo")
    )
    for action, undone in (("cancel", True), ("terminate", False)):
        execution_id = await api.start(workflow_id)
        await api.at(execution_id, "wait")
        await api.post(f"/executions/{execution_id}/{action}")
        execution = await api.ended(execution_id)
        assert execution["status"] == "cancelled"
        assert ("undo" in statuses(execution)) is undone
