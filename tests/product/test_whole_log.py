"""After all that the other tests did here: the read models equal a replay, and everything open can be woken."""

from chaos.test_faults import require_read_models_equal_replay

from product.conftest import Api
from product.test_scale import handrail


async def test_the_read_models_equal_a_replay(api: Api) -> None:
    await require_read_models_equal_replay(api.platform)


async def test_everything_open_has_a_wake_source(api: Api) -> None:
    code, text = await handrail(api, "audit", "liveness")
    assert code == 0, text
