for (const svg of document.querySelectorAll("svg[data-chart]")) {
  const {x: [low, high], frame: [left, right, width], series} = JSON.parse(svg.dataset.chart);
  const chart = svg.closest(".chart"), line = svg.querySelector(".pointer");
  const values = chart.querySelectorAll(".legend b"), at = chart.querySelector(".at");
  const home = [...values].map(value => value.textContent);
  svg.addEventListener("pointermove", event => {
    const box = svg.getBoundingClientRect(), px = (event.clientX - box.left) / box.width * width;
    const x = low + (px - left) / (right - left) * (high - low);
    let shown = null;
    series.forEach((points, i) => {
      const near = points.reduce((a, b) => Math.abs(b[0] - x) < Math.abs(a[0] - x) ? b : a);
      values[i].textContent = near[1];
      if (shown === null || Math.abs(near[0] - x) < Math.abs(shown - x)) shown = near[0];
    });
    const pos = left + (shown - low) / (high - low) * (right - left);
    line.setAttribute("x1", pos); line.setAttribute("x2", pos); line.setAttribute("visibility", "visible");
    at.textContent = "step " + shown.toLocaleString("en");
  });
  svg.addEventListener("pointerleave", () => {
    line.setAttribute("visibility", "hidden"); at.textContent = "";
    values.forEach((value, i) => { value.textContent = home[i]; });
  });
}
