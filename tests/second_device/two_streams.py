"""Small programs that are wrong on a GPU, and what makes each right: what the device says about them."""

import torch


def run(device) -> dict:
    main, side = torch.accelerator.current_stream(), torch.Stream("hpu")
    home = torch.ones(4).pin_memory()
    races = {}

    def record(name):
        races[name] = device.take_violations()
        torch.accelerator.synchronize()

    with side:
        there = home.to("hpu", non_blocking=True)
    early = (there + 1).cpu()
    record("read before the copy has arrived")
    with side:
        there = home.to("hpu", non_blocking=True)
    main.wait_stream(side)
    late = (there + 1).cpu()
    record("read after it")

    for name in ("freed while another stream reads it", "freed with record_stream"):
        there = torch.ones(4, device="hpu")
        side.wait_stream(main)
        with side:
            there.sum()
        if name == "freed with record_stream":
            there.record_stream(side)
        del there
        torch.ones(4, device="hpu")
        record(name)

    back = torch.zeros(4).pin_memory()
    back.copy_(torch.ones(4, device="hpu"), non_blocking=True)
    unfinished = back.tolist()
    torch.accelerator.synchronize()
    values = {
        "early": early.isnan().all().item(),
        "late": late.tolist(),
        "unfinished": unfinished,
        "back": back.tolist(),
    }
    pinned = {"home": home.is_pinned(), "a part of it": home[2:].is_pinned(), "other": torch.ones(4).is_pinned()}
    return {"races": races, "values": values, "pinned": pinned}
