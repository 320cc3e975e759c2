//! The steps of a run as a drawing: from left to right what depends on what, with the way that took longest.

use std::collections::HashMap;

use super::{status::Status, text::Lasting};

const HEIGHT: usize = 34;
const GAP: usize = 10;
/// Between two columns, for the edges.
const BETWEEN: usize = 44;
/// The longest name that is shown whole.
const LONGEST: usize = 24;

/// A step, as far as the drawing is concerned.
pub(super) struct Given<'a> {
    pub(super) name: &'a str,
    pub(super) status: Status,
    pub(super) depends_on: &'a [String],
    pub(super) took: Option<Lasting>,
    pub(super) href: String,
    pub(super) is_selected: bool,
}

/// The drawing.
pub(super) struct Graph {
    pub(super) width: usize,
    pub(super) height: usize,
    pub(super) nodes: Vec<Node>,
    pub(super) edges: Vec<Edge>,
}

pub(super) struct Node {
    pub(super) x: usize,
    pub(super) y: usize,
    pub(super) width: usize,
    pub(super) name: String,
    pub(super) label: String,
    pub(super) status: Status,
    pub(super) took: String,
    pub(super) href: String,
    pub(super) is_selected: bool,
}

pub(super) struct Edge {
    pub(super) path: String,
    pub(super) is_critical: bool,
}

impl Graph {
    /// None for a run of at most one step: there is nothing to see.
    pub(super) fn of(steps: &[Given<'_>]) -> Option<Self> {
        if steps.len() < 2 {
            return None;
        }
        let place: HashMap<&str, usize> = steps.iter().enumerate().map(|(i, step)| (step.name, i)).collect();
        let parents: Vec<Vec<usize>> = steps
            .iter()
            .map(|step| step.depends_on.iter().filter_map(|name| place.get(name.as_str()).copied()).collect())
            .collect();
        let columns = columns(&parents);
        let critical = critical(steps, &parents);

        let places = places(&columns, &parents);
        let mut nodes: Vec<Option<Node>> = steps.iter().map(|_| None).collect();
        let (mut lefts, mut widths, mut x) = (Vec::new(), Vec::new(), 2);
        for column in &columns {
            let width = column.iter().map(|&i| width(&steps[i])).max().unwrap_or(0);
            lefts.push(x);
            widths.push(width);
            x += width + BETWEEN;
        }
        let top = |row: usize| 2 + row * (HEIGHT + GAP);
        let mut rows = 0;
        for (&(item, column), &row) in &places {
            rows = rows.max(row + 1);
            if depth(&columns, item) == column {
                nodes[item] = Some(node(&steps[item], lefts[column], top(row), widths[column]));
            }
        }
        let mut edges = Vec::new();
        for (i, parents) in parents.iter().enumerate() {
            for &parent in parents {
                let (from, to) = (depth(&columns, parent), depth(&columns, i));
                let middle = |item: usize, column: usize| top(places[&(item, column)]) + HEIGHT / 2;
                let mut path = format!("M{} {}", lefts[from] + widths[from], middle(parent, from));
                for column in from + 1..=to {
                    let item = if column == to { i } else { parent };
                    let (before, y) = (middle(parent, column - 1), middle(item, column));
                    let (left, bend) = (lefts[column], lefts[column] - BETWEEN / 2);
                    path += &format!("C{bend} {before} {bend} {y} {left} {y}");
                    if column < to {
                        path += &format!("H{}", left + widths[column]);
                    }
                }
                let is_critical = critical.windows(2).any(|pair| pair == [parent, i]);
                edges.push(Edge { path, is_critical });
            }
        }
        // What is drawn last lies on top.
        edges.sort_by_key(|edge| edge.is_critical);
        let nodes = nodes.into_iter().flatten().collect();
        Some(Self { width: x - BETWEEN + 2, height: top(rows) - GAP + 2, nodes, edges })
    }
}

fn depth(columns: &[Vec<usize>], item: usize) -> usize {
    columns.iter().position(|column| column.contains(&item)).unwrap_or(0)
}

/// The row of each step in its column; and in the columns behind it, as long as an edge of it goes on there, so that the
/// edge passes by what stands in between.
fn places(columns: &[Vec<usize>], parents: &[Vec<usize>]) -> HashMap<(usize, usize), usize> {
    let last_use = |item: usize| {
        let users = parents.iter().enumerate().filter(|(_, parents)| parents.contains(&item));
        users.map(|(user, _)| depth(columns, user)).max().unwrap_or(0)
    };
    let mut places: HashMap<(usize, usize), usize> = HashMap::new();
    let mut passing: Vec<usize> = Vec::new();
    for (number, column) in columns.iter().enumerate() {
        passing.retain(|&item| last_use(item) > number);
        let mut order: Vec<(usize, usize, usize)> = Vec::new();
        for &item in column.iter().chain(&passing) {
            let own = [item];
            let before = if column.contains(&item) { &parents[item][..] } else { &own[..] };
            let rows = before.iter().filter_map(|&parent| places.get(&(parent, number.wrapping_sub(1))));
            // In hundredths of a row.
            let sum: usize = rows.map(|row| row * 100).sum();
            order.push((sum / before.len().max(1), usize::from(!column.contains(&item)), item));
        }
        order.sort_unstable();
        places.extend(order.iter().enumerate().map(|(row, &(_, _, item))| ((item, number), row)));
        passing.extend(column);
    }
    places
}

/// Each step stands one column to the right of the last one it depends on. Steps come after what they depend on.
fn columns(parents: &[Vec<usize>]) -> Vec<Vec<usize>> {
    let mut depth = vec![0; parents.len()];
    let mut columns: Vec<Vec<usize>> = Vec::new();
    // The file may name a step before what it depends on: as many rounds as the graph is deep settle it.
    for _ in 0..parents.len() {
        let mut settled = true;
        for (i, parents) in parents.iter().enumerate() {
            let wanted = parents.iter().map(|&parent| depth[parent] + 1).max().unwrap_or(0);
            settled &= wanted == depth[i];
            depth[i] = wanted;
        }
        if settled {
            break;
        }
    }
    for (i, &depth) in depth.iter().enumerate() {
        columns.resize_with(columns.len().max(depth + 1), Vec::new);
        columns[depth].push(i);
    }
    columns
}

/// The chain of steps that took longest, first to last; none before all that has begun has ended.
fn critical(steps: &[Given<'_>], parents: &[Vec<usize>]) -> Vec<usize> {
    if steps.iter().any(|step| step.status.is_live()) {
        return Vec::new();
    }
    let mut order: Vec<usize> = Vec::new();
    for column in columns(parents) {
        order.extend(column);
    }
    let mut total = vec![0; steps.len()];
    let mut before = vec![None; steps.len()];
    for &i in &order {
        before[i] = parents[i].iter().copied().max_by_key(|&parent| total[parent]);
        total[i] = before[i].map_or(0, |parent: usize| total[parent]) + steps[i].took.map_or(0, Lasting::milliseconds);
    }
    let mut chain = Vec::new();
    let mut at = order.into_iter().filter(|&i| steps[i].took.is_some()).max_by_key(|&i| total[i]);
    while let Some(i) = at {
        chain.push(i);
        at = before[i];
    }
    chain.reverse();
    chain
}

fn label(name: &str) -> String {
    if name.chars().count() <= LONGEST {
        return name.to_owned();
    }
    name.chars().take(LONGEST - 1).chain(['…']).collect()
}

/// A character is at most so wide, on average, in tenths of a pixel.
fn width(step: &Given<'_>) -> usize {
    let took = step.took.map_or(0, |took| took.text().len() * 66 + 120);
    34 + (label(step.name).chars().count() * 76 + took) / 10 + 12
}

fn node(step: &Given<'_>, x: usize, y: usize, width: usize) -> Node {
    Node {
        x,
        y,
        width,
        name: step.name.to_owned(),
        label: label(step.name),
        status: step.status,
        took: step.took.map(Lasting::text).unwrap_or_default(),
        href: step.href.clone(),
        is_selected: step.is_selected,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn drawn(steps: &[(&str, &[&str])]) -> Option<Graph> {
        let owned: Vec<Vec<String>> =
            steps.iter().map(|(_, needs)| needs.iter().map(|name| (*name).into()).collect()).collect();
        let given: Vec<_> = steps
            .iter()
            .zip(&owned)
            .map(|((name, _), depends_on)| Given {
                name,
                status: Status("success"),
                depends_on,
                took: None,
                href: String::new(),
                is_selected: false,
            })
            .collect();
        Graph::of(&given)
    }

    #[test]
    fn one_step_is_no_graph() {
        assert!(drawn(&[("a", &[])]).is_none());
    }

    #[test]
    fn a_step_stands_right_of_all_it_depends_on_wherever_the_file_has_it() {
        let graph = drawn(&[("d", &["b", "c"]), ("a", &[]), ("b", &["a"]), ("c", &["a"])]).unwrap();
        let x: HashMap<_, _> = graph.nodes.iter().map(|node| (node.name.as_str(), node.x)).collect();
        assert!(x["a"] < x["b"] && x["b"] == x["c"] && x["c"] < x["d"]);
        assert_eq!(graph.edges.len(), 4);
    }

    #[test]
    fn an_edge_passes_by_what_stands_in_between() {
        let graph = drawn(&[("a", &[]), ("b", &["a"]), ("c", &["a", "b"])]).unwrap();
        let b = graph.nodes.iter().find(|node| node.name == "b").unwrap();
        let long = graph.edges.iter().find(|edge| edge.path.contains('H')).unwrap();
        assert!(!long.path.contains(&format!(" {}H", b.y + HEIGHT / 2)), "{}", long.path);
    }

    #[test]
    fn nothing_lies_on_anything_else() {
        let graph = drawn(&[("a", &[]), ("b", &[]), ("c", &["a", "b"]), ("d", &["a"]), ("e", &["c"])]).unwrap();
        for (i, one) in graph.nodes.iter().enumerate() {
            assert!(one.x + one.width <= graph.width && one.y + HEIGHT <= graph.height);
            for other in &graph.nodes[i + 1..] {
                assert!((one.x, one.y) != (other.x, other.y), "{} and {}", one.name, other.name);
            }
        }
    }
}
