"""Charts in pixels."""

from earl.pages.charts import BOTTOM, LEFT, RIGHT, TOP, Chart, Series, draw


def test_a_band_is_drawn_under_its_line_and_fits_into_the_chart():
    band = [(0, 0.0, 4.0), (1, 1.0, 8.0)]
    drawn = draw(Chart("t", "n", [Series("a", [(0, 2.0), (1, 3.0)], 0, band=band)]))
    assert [path.kind for path in drawn.paths] == ["band", "line"]
    corners = [tuple(map(float, pair.split())) for pair in drawn.paths[0].d[1:-1].split("L")]
    assert [x for x, _ in corners] == [LEFT, RIGHT, RIGHT, LEFT]
    assert min(y for _, y in corners) >= TOP and max(y for _, y in corners) <= BOTTOM
