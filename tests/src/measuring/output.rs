//! Statistics, tables in Markdown, and plots in SVG.

use std::fmt::Write as _;

/// The median; NaN without numbers.
pub fn median(numbers: &[f64]) -> f64 {
    let mut sorted = numbers.to_vec();
    sorted.sort_by(f64::total_cmp);
    let middle = sorted.len() / 2;
    match sorted.len() {
        0 => f64::NAN,
        it if it % 2 == 1 => sorted[middle],
        _ => f64::midpoint(sorted[middle - 1], sorted[middle]),
    }
}

/// The smallest number that `hundredths` percent of the numbers do not exceed; NaN without numbers.
pub fn percentile(numbers: &[f64], hundredths: usize) -> f64 {
    let mut sorted = numbers.to_vec();
    sorted.sort_by(f64::total_cmp);
    let index = (sorted.len() * hundredths).div_ceil(100).max(1) - 1;
    sorted.get(index).copied().unwrap_or(f64::NAN)
}

/// A table in Markdown.
pub fn table(head: &[&str], rows: &[Vec<String>]) -> String {
    let head: Vec<String> = head.iter().map(ToString::to_string).collect();
    let rule = vec!["---".to_owned(); head.len()];
    let body: String = rows.iter().map(|it| table_row(it)).collect();
    table_row(&head) + &table_row(&rule) + &body
}

fn table_row(cells: &[String]) -> String {
    format!("| {} |\n", cells.join(" | "))
}

/// One line of a plot.
pub struct Series {
    /// Name in the legend.
    pub name: String,
    /// Values, one for each place on the axis.
    pub points: Vec<f64>,
}

impl Series {
    /// A line without points.
    pub fn new(name: &str) -> Self {
        Self { name: name.to_owned(), points: Vec::new() }
    }
}

/// Size and margins of a plot in pixels.
const WIDTH: f64 = 640.0;
const HEIGHT: f64 = 360.0;
const LEFT: f64 = 70.0;
const BOTTOM: f64 = 50.0;
const TOP: f64 = 40.0;
const RIGHT: f64 = 130.0;

/// The palette of Okabe and Ito, which people with colour blindness can distinguish.
const COLOURS: [&str; 5] = ["#0072B2", "#E69F00", "#009E73", "#CC79A7", "#56B4E9"];

/// A plot in SVG of `series` over `places`, whose axis begins at zero.
pub fn plot(title: &str, unit: &str, places: &[String], series: &[Series]) -> String {
    let highest = series.iter().flat_map(|it| &it.points).copied().fold(0.0, f64::max).max(1e-9);
    let step = rounded_up(highest / 4.0);
    let top = (highest / step).ceil() * step;
    let width = WIDTH - LEFT - RIGHT;
    let height = HEIGHT - TOP - BOTTOM;
    let x = |place: usize| LEFT + width * (place as f64 + 0.5) / places.len().max(1) as f64;
    let y = |value: f64| TOP + height * (1.0 - value / top);
    let mut svg = format!(
        "<svg xmlns=\"http://www.w3.org/2000/svg\" viewBox=\"0 0 {WIDTH} {HEIGHT}\" \
         font-family=\"sans-serif\" font-size=\"12\">\n\
         <rect width=\"100%\" height=\"100%\" fill=\"white\"/>\n\
         <text x=\"{LEFT}\" y=\"20\" font-size=\"14\">{title}</text>\n"
    );
    let mut value = 0.0;
    while value <= top * 1.0001 {
        let at = y(value);
        _ = writeln!(
            svg,
            "<line x1=\"{LEFT}\" x2=\"{}\" y1=\"{at:.1}\" y2=\"{at:.1}\" stroke=\"#ddd\"/>\
             <text x=\"{}\" y=\"{:.1}\" text-anchor=\"end\">{value}</text>",
            LEFT + width,
            LEFT - 6.0,
            at + 4.0
        );
        value += step;
    }
    for (place, name) in places.iter().enumerate() {
        let at = x(place);
        _ = writeln!(
            svg,
            "<text x=\"{at:.1}\" y=\"{}\" text-anchor=\"middle\">{name}</text>",
            HEIGHT - BOTTOM + 18.0
        );
    }
    _ = writeln!(svg, "<text x=\"8\" y=\"{}\">{unit}</text>", TOP - 8.0);
    for (number, line) in series.iter().enumerate() {
        draw(&mut svg, number, line, &x, &y);
    }
    svg + "</svg>\n"
}

/// Draws line number `number` of a plot with its points and its entry in the legend.
fn draw(
    svg: &mut String,
    number: usize,
    line: &Series,
    x: &impl Fn(usize) -> f64,
    y: &impl Fn(f64) -> f64,
) {
    let colour = COLOURS[number % COLOURS.len()];
    let points: Vec<String> = (line.points.iter().enumerate())
        .map(|(place, value)| format!("{:.1},{:.1}", x(place), y(*value)))
        .collect();
    let text = points.join(" ");
    _ = writeln!(
        svg,
        "<polyline points=\"{text}\" fill=\"none\" stroke=\"{colour}\" stroke-width=\"2\"/>"
    );
    for point in &points {
        let (px, py) = point.split_once(',').unwrap();
        _ = writeln!(svg, "<circle cx=\"{px}\" cy=\"{py}\" r=\"3\" fill=\"{colour}\"/>");
    }
    let left = WIDTH - RIGHT + 10.0;
    let top = TOP + 16.0 * (number as f64 + 1.0);
    let name = &line.name;
    _ = writeln!(svg, "<text x=\"{left}\" y=\"{top}\" fill=\"{colour}\">{name}</text>");
}

/// The smallest round number not below `value`: 1, 2, 5 or 10 times a power of ten.
fn rounded_up(value: f64) -> f64 {
    let power = 10_f64.powf(value.log10().floor());
    [1.0, 2.0, 5.0, 10.0].into_iter().map(|it| it * power).find(|it| *it >= value).unwrap_or(value)
}
