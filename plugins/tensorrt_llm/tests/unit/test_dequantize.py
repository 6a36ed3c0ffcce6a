"""What the bytes of the formats mean, by hand."""

from modelexport_tensorrt_llm import dequantize


def test_nibbles_and_scales_by_hand(torch):
    packed = torch.tensor([[0x8F, 0x21]], dtype=torch.uint8)  # rows 0 and 1 of two columns
    four = dequantize.layer({"a.weight": packed, "a.weight_scale": torch.tensor([[0.5], [2.0]])}, "a", "W4A16_AWQ")
    assert four.weight.tolist() == [[-0.5, 0.5], [-16.0, 4.0]]
    assert four.enter is None
    codes = torch.tensor([[0x10 * (2 * i + 1) % 256 + 2 * i for i in range(8)]], dtype=torch.uint8)
    tensors = {
        "a.weight": codes,
        "a.weight_scale": torch.tensor([[2.0]]).to(torch.float8_e4m3fn),
        "a.weight_scale_2": torch.tensor(0.25),
        "a.input_scale": torch.tensor(1.0),
    }
    half = dequantize.layer(tensors, "a", "NVFP4").weight[0].tolist()
    assert half == [0, 0.25, 0.5, 0.75, 1, 1.5, 2, 3, 0, -0.25, -0.5, -0.75, -1, -1.5, -2, -3]
    eight = {"weight": torch.tensor([[-128, 64]], dtype=torch.int8), "weight_scale": torch.tensor([0.5])}
    eight |= {"input_scale": torch.tensor(0.1), "pre_quant_scale": torch.tensor([1.0, 2.0])}
    layer = dequantize.layer({f"b.{key}": value for key, value in eight.items()}, "b", "W8A8_SQ_PER_CHANNEL")
    assert layer.weight.tolist() == [[-64.0, 32.0]]
    torch.testing.assert_close(layer.enter(torch.tensor([[0.26, 100.0]])), torch.tensor([[0.3, 12.7]]))


def test_activations_are_rounded_as_the_formats_round(torch):
    x = torch.tensor([448.0 * 3, -1e9, 17.0, 18.0, 0.001])
    assert dequantize.e4m3(x, torch.tensor(1.0)).tolist()[:4] == [448.0, -448.0, 16.0, 18.0]
    ties = torch.tensor([0.25, 0.75, 1.25, 1.75, 2.5, 3.5, 5.0, 6.0, -0.3, -5.1, 0.0, 0.74, 0.76, 4.9, 1.0, -6.0])
    wanted = [0.0, 1.0, 1.0, 2.0, 2.0, 4.0, 4.0, 6.0, -0.5, -6.0, 0.0, 0.5, 1.0, 4.0, 1.0, -6.0]
    assert dequantize.in_blocks(ties, torch.tensor(1.0)).tolist() == wanted
    assert not dequantize.in_blocks(torch.zeros(2, 32), torch.tensor(0.1)).any()
