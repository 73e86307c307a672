"""What people may set as a budget."""

import pytest
from handrail_gateway.schemas import BudgetRequest
from pydantic import ValidationError


@pytest.mark.parametrize("limits", ['{"tokens": 1000000000000000000000000000000}', '{"cost_usd": Infinity}'])
def test_a_limit_is_a_number_that_every_service_can_keep(limits: str) -> None:
    with pytest.raises(ValidationError, match="leave out what is not limited"):
        BudgetRequest.model_validate_json(f'{{"limits": {limits}}}')
