//! Where the boxes of the chain of steps are drawn: in layers, so that files flow one way.
//!
//! Layers by the longest way from a source; boxes of a layer in the order of the middle of their neighbours; an arrow
//! over several layers keeps a lane free in each. All lengths are in CSS pixels.

/// Sizes and direction of a drawing.
#[derive(Clone, Copy, Debug)]
pub(super) struct Shape {
    /// Whether files flow to the right; else down.
    pub(super) rightwards: bool,
    pub(super) width: i32,
    pub(super) height: i32,
    /// Between layers.
    pub(super) gap: i32,
    /// Between boxes of a layer.
    pub(super) beside: i32,
    /// Boxes in a row of those that nothing is joined to.
    pub(super) columns: usize,
}

/// A point.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Point {
    pub(super) x: i32,
    pub(super) y: i32,
}

/// Where everything is.
#[derive(Debug)]
pub(super) struct Layout {
    /// The upper left corner of each box.
    pub(super) boxes: Vec<Point>,
    /// The arrows: from box, to box, and the points that it goes through.
    pub(super) arrows: Vec<(usize, usize, Vec<Point>)>,
    pub(super) width: i32,
    pub(super) height: i32,
}

/// Width of the lane of an arrow that passes a layer.
const LANE: i32 = 14;
/// How often order and places are improved.
const SWEEPS: usize = 24;

/// A box, or the lane of an arrow, in a layer.
#[derive(Clone, Debug)]
struct Slot {
    node: Option<usize>,
    layer: usize,
    /// Middle, across the flow.
    at: i32,
    before: Vec<usize>,
    after: Vec<usize>,
}

/// Places `count` boxes, which `edges` join. Edges that would close a circle, or that join what is not there, are not
/// drawn.
pub(super) fn layout(count: usize, edges: &[(usize, usize)], shape: &Shape) -> Layout {
    let edges = forward(count, edges);
    let joined: Vec<bool> = (0..count).map(|node| edges.iter().any(|(a, b)| *a == node || *b == node)).collect();
    let (mut slots, ways) = slots(count, &edges, &joined);
    let mut layers: Vec<Vec<usize>> = vec![Vec::new(); slots.iter().map(|slot| slot.layer + 1).max().unwrap_or(0)];
    for (index, slot) in slots.iter().enumerate() {
        layers[slot.layer].push(index);
    }
    let (along, across) = if shape.rightwards { (shape.width, shape.height) } else { (shape.height, shape.width) };
    let size = |slot: &Slot| if slot.node.is_some() { across } else { LANE };
    order(&mut layers, &slots);
    place(&layers, &mut slots, &size, shape.beside);
    let least = slots.iter().map(|slot| slot.at - size(slot) / 2).min().unwrap_or(0);
    let most = slots.iter().map(|slot| slot.at + size(slot) / 2 - least).max().unwrap_or(0);
    for slot in &mut slots {
        slot.at -= least;
    }
    let begin = |layer: usize| px(layer) * (along + shape.gap);
    let length = px(layers.len()) * (along + shape.gap) - shape.gap;
    let (joined_width, mut height) = match (layers.is_empty(), shape.rightwards) {
        (true, _) => (0, 0),
        (false, true) => (length, most),
        (false, false) => (most, length),
    };
    // What is joined to nothing stands below, in rows; the narrower of both stands in the middle.
    let alone: Vec<usize> = (0..count).filter(|node| !joined[*node]).collect();
    let row_width = |count: usize| px(count) * (shape.width + shape.beside) - shape.beside;
    let width = joined_width.max(row_width(alone.len().min(shape.columns)));
    let left = (width - joined_width) / 2;
    let point = |along: i32, across: i32| {
        if shape.rightwards { Point { x: left + along, y: across } } else { Point { x: left + across, y: along } }
    };
    let mut boxes = vec![Point { x: 0, y: 0 }; count];
    for slot in &slots {
        if let Some(node) = slot.node {
            boxes[node] = point(begin(slot.layer), slot.at - across / 2);
        }
    }
    let mut top = if height > 0 { height + shape.gap } else { 0 };
    for row in alone.chunks(shape.columns) {
        let begin = (width - row_width(row.len())) / 2;
        for (column, node) in row.iter().enumerate() {
            boxes[*node] = Point { x: begin + px(column) * (shape.width + shape.beside), y: top };
        }
        height = top + shape.height;
        top = height + shape.beside;
    }
    let arrows = ways
        .iter()
        .enumerate()
        .map(|(index, way)| {
            let (from, to) = edges[index];
            let last = way.len() - 1;
            let points = way
                .iter()
                .enumerate()
                .flat_map(|(number, slot)| {
                    let at = &slots[*slot];
                    let (near, far) = (begin(at.layer), begin(at.layer) + along);
                    let port = |outgoing| at.at + port(index, *slot, outgoing, &ways, &slots, across);
                    match number {
                        0 => vec![point(far, port(true))],
                        _ if number == last => vec![point(near, port(false))],
                        _ => vec![point(near, at.at), point(far, at.at)],
                    }
                })
                .collect();
            (from, to, points)
        })
        .collect();
    Layout { boxes, arrows, width, height }
}

/// A count as a length.
fn px(count: usize) -> i32 {
    i32::try_from(count).unwrap_or(i32::MAX)
}

/// The edges without those that would close a circle, that lead nowhere, or that are there twice.
fn forward(count: usize, edges: &[(usize, usize)]) -> Vec<(usize, usize)> {
    let mut kept: Vec<(usize, usize)> = Vec::new();
    for &(from, to) in edges {
        if from < count && to < count && from != to && !kept.contains(&(from, to)) && !reaches(&kept, to, from) {
            kept.push((from, to));
        }
    }
    kept
}

/// Whether `edges` lead from `from` to `to`.
fn reaches(edges: &[(usize, usize)], from: usize, to: usize) -> bool {
    let mut seen = vec![from];
    let mut next = 0;
    while let Some(&node) = seen.get(next) {
        if node == to {
            return true;
        }
        for &(_, b) in edges.iter().filter(|(a, _)| *a == node) {
            if !seen.contains(&b) {
                seen.push(b);
            }
        }
        next += 1;
    }
    false
}

/// The slots, and for each edge those that it goes through.
fn slots(count: usize, edges: &[(usize, usize)], joined: &[bool]) -> (Vec<Slot>, Vec<Vec<usize>>) {
    let mut layer = vec![0; count];
    for _ in 0..count {
        for &(from, to) in edges {
            layer[to] = layer[to].max(layer[from] + 1);
        }
    }
    let mut slots = Vec::new();
    let mut slot_of = vec![0; count];
    for node in (0..count).filter(|node| joined[*node]) {
        slot_of[node] = slots.len();
        slots.push(Slot { node: Some(node), layer: layer[node], at: 0, before: Vec::new(), after: Vec::new() });
    }
    let mut ways = Vec::new();
    for &(from, to) in edges {
        let mut way = vec![slot_of[from]];
        for layer in layer[from] + 1..layer[to] {
            way.push(slots.len());
            slots.push(Slot { node: None, layer, at: 0, before: Vec::new(), after: Vec::new() });
        }
        way.push(slot_of[to]);
        for pair in way.windows(2) {
            slots[pair[0]].after.push(pair[1]);
            slots[pair[1]].before.push(pair[0]);
        }
        ways.push(way);
    }
    (slots, ways)
}

/// Orders each layer by the middle of its neighbours' ranks, from both sides in turn.
fn order(layers: &mut [Vec<usize>], slots: &[Slot]) {
    let mut rank = vec![0_usize; slots.len()];
    let mut best: Option<(usize, Vec<Vec<usize>>)> = None;
    for sweep in 0..SWEEPS {
        let indices: Vec<usize> =
            if sweep % 2 == 0 { (0..layers.len()).collect() } else { (0..layers.len()).rev().collect() };
        for layer in layers.iter() {
            for (number, slot) in layer.iter().enumerate() {
                rank[*slot] = number;
            }
        }
        for index in indices {
            let middle = |slot: &usize| {
                let near = if sweep % 2 == 0 { &slots[*slot].before } else { &slots[*slot].after };
                if near.is_empty() {
                    rank[*slot] * 1000
                } else {
                    near.iter().map(|other| rank[*other] * 1000).sum::<usize>() / near.len()
                }
            };
            layers[index].sort_by_key(middle);
            for (number, slot) in layers[index].iter().enumerate() {
                rank[*slot] = number;
            }
        }
        let crossings = crossings(layers, slots, &rank);
        if best.as_ref().is_none_or(|(fewest, _)| crossings < *fewest) {
            best = Some((crossings, layers.to_vec()));
        }
    }
    if let Some((_, fewest)) = best {
        layers.clone_from_slice(&fewest);
    }
}

/// How many arrows cross between layers.
fn crossings(layers: &[Vec<usize>], slots: &[Slot], rank: &[usize]) -> usize {
    let mut count = 0;
    for layer in layers {
        let arrows: Vec<(usize, usize)> =
            layer.iter().flat_map(|slot| slots[*slot].after.iter().map(|after| (rank[*slot], rank[*after]))).collect();
        for (number, a) in arrows.iter().enumerate() {
            count +=
                arrows[number + 1..].iter().filter(|b| (a.0 < b.0 && a.1 > b.1) || (a.0 > b.0 && a.1 < b.1)).count();
        }
    }
    count
}

/// Moves the slots of each layer towards their neighbours, keeping order and distance.
fn place(layers: &[Vec<usize>], slots: &mut [Slot], size: &impl Fn(&Slot) -> i32, beside: i32) {
    for layer in layers {
        spread(layer, &vec![0; layer.len()], slots, size, beside);
    }
    for sweep in 0..SWEEPS {
        let indices: Vec<usize> =
            if sweep % 2 == 0 { (0..layers.len()).collect() } else { (0..layers.len()).rev().collect() };
        for index in indices {
            let wanted: Vec<i32> = layers[index].iter().map(|slot| middle(slots, *slot, sweep)).collect();
            spread(&layers[index], &wanted, slots, size, beside);
        }
    }
    straighten(layers, slots, size, beside);
}

/// Takes the small steps out of arrows that are nearly straight.
fn straighten(layers: &[Vec<usize>], slots: &mut [Slot], size: &impl Fn(&Slot) -> i32, beside: i32) {
    for layer in layers {
        let wanted: Vec<i32> = layer
            .iter()
            .map(|slot| match slots[*slot].before[..] {
                [one] if (slots[one].at - slots[*slot].at).abs() < LANE => slots[one].at,
                _ => slots[*slot].at,
            })
            .collect();
        spread(layer, &wanted, slots, size, beside);
    }
}

/// Where a slot would stand best: in the middle of its neighbours, lanes in a straight line.
fn middle(slots: &[Slot], slot: usize, sweep: usize) -> i32 {
    let slot = &slots[slot];
    // The second half looks both ways: a box stands between what it takes from and what takes from it.
    let (both, down) = (sweep * 2 >= SWEEPS, sweep.is_multiple_of(2));
    let before = slot.before.iter().filter(|_| both || down);
    let after = slot.after.iter().filter(|_| both || !down);
    let (sum, weights) = before.chain(after).fold((0, 0), |(sum, weights), other| {
        let other = &slots[*other];
        let weight = match (slot.node, other.node) {
            (None, None) => 8,
            (Some(_), Some(_)) => 1,
            _ => 2,
        };
        (sum + other.at * weight, weights + weight)
    });
    if weights == 0 { slot.at } else { sum / weights }
}

/// Places the slots of a layer as near to what is wanted as their distance allows: least squares under an order, by
/// pooling neighbours that would overlap.
fn spread(layer: &[usize], wanted: &[i32], slots: &mut [Slot], size: &impl Fn(&Slot) -> i32, beside: i32) {
    let mut offset = 0;
    let mut offsets = Vec::with_capacity(layer.len());
    for (number, slot) in layer.iter().enumerate() {
        if number > 0 {
            offset += size(&slots[layer[number - 1]]) / 2 + beside + size(&slots[*slot]) / 2;
        }
        offsets.push(offset);
    }
    // Sum and count of each pool.
    let mut pools: Vec<(i32, i32)> = Vec::new();
    for (wanted, offset) in wanted.iter().zip(&offsets) {
        pools.push((wanted - offset, 1));
        while let [.., (a, n), (b, m)] = pools[..]
            && a / n > b / m
        {
            pools.pop();
            pools.pop();
            pools.push((a + b, n + m));
        }
    }
    let mut next = 0;
    for (sum, count) in pools {
        for _ in 0..count {
            slots[layer[next]].at = sum / count + offsets[next];
            next += 1;
        }
    }
}

/// How far from the middle of a box an arrow begins or ends, so that several do not meet in one point.
fn port(edge: usize, slot: usize, outgoing: bool, ways: &[Vec<usize>], slots: &[Slot], across: i32) -> i32 {
    let mut others: Vec<(i32, usize)> = ways
        .iter()
        .enumerate()
        .filter_map(|(index, way)| {
            let other = match outgoing {
                true if way.first() == Some(&slot) => way.get(1),
                false if way.last() == Some(&slot) => way.len().checked_sub(2).and_then(|last| way.get(last)),
                _ => None,
            };
            other.map(|other| (slots[*other].at, index))
        })
        .collect();
    others.sort_unstable();
    let count = px(others.len());
    let rank = px(others.iter().position(|(_, index)| *index == edge).unwrap_or(0));
    let step = if count > 1 { (across * 3 / 5 / (count - 1)).min(18) } else { 0 };
    rank * step - step * (count - 1) / 2
}

#[cfg(test)]
mod tests {
    use super::*;

    const RIGHT: Shape = Shape { rightwards: true, width: 200, height: 70, gap: 50, beside: 20, columns: 4 };
    const DOWN: Shape = Shape { rightwards: false, width: 150, height: 70, gap: 40, beside: 16, columns: 2 };

    #[track_caller]
    fn is_sound(count: usize, edges: &[(usize, usize)]) -> Layout {
        for shape in [RIGHT, DOWN] {
            let layout = layout(count, edges, &shape);
            assert_eq!(layout.boxes.len(), count);
            for (number, a) in layout.boxes.iter().enumerate() {
                assert!(
                    a.x >= 0 && a.y >= 0 && a.x + shape.width <= layout.width && a.y + shape.height <= layout.height
                );
                for b in &layout.boxes[number + 1..] {
                    let apart = (a.x - b.x).abs() >= shape.width || (a.y - b.y).abs() >= shape.height;
                    assert!(apart, "{a:?} lies on {b:?} of {layout:?}");
                }
            }
            for (from, to, points) in &layout.arrows {
                let (from, to) = (layout.boxes[*from], layout.boxes[*to]);
                let (first, last) = (points[0], points[points.len() - 1]);
                if shape.rightwards {
                    assert_eq!((first.x, last.x), (from.x + shape.width, to.x), "from side to side");
                    assert!(first.x < last.x);
                } else {
                    assert_eq!((first.y, last.y), (from.y + shape.height, to.y), "from side to side");
                    assert!(first.y < last.y);
                }
                // The straight pieces beside boxes do not touch them.
                for pair in points[1..points.len() - 1].chunks(2) {
                    for at in &layout.boxes {
                        let outside = if shape.rightwards {
                            pair[0].x != at.x || pair[0].y <= at.y || pair[0].y >= at.y + shape.height
                        } else {
                            pair[0].y != at.y || pair[0].x <= at.x || pair[0].x >= at.x + shape.width
                        };
                        assert!(outside, "an arrow goes through a box: {layout:?}");
                    }
                }
            }
        }
        layout(count, edges, &RIGHT)
    }

    #[test]
    fn steps_stand_in_the_order_of_their_files() {
        let layout = is_sound(3, &[(0, 1), (1, 2)]);
        assert_eq!(layout.arrows.len(), 2);
        assert!(layout.boxes[0].x < layout.boxes[1].x && layout.boxes[1].x < layout.boxes[2].x);
        assert_eq!((layout.boxes[0].y, layout.boxes[2].y), (0, 0), "a chain is a straight line");
        assert_eq!((layout.width, layout.height), (700, 70));
    }

    #[test]
    fn branches_and_long_ways_do_not_touch_boxes() {
        let layout =
            is_sound(8, &[(0, 1), (0, 2), (0, 6), (1, 3), (1, 4), (2, 4), (4, 5), (4, 7), (5, 7), (6, 7), (0, 7)]);
        assert_eq!(layout.arrows.len(), 11);
    }

    #[test]
    fn what_is_joined_to_nothing_stands_in_rows() {
        let layout = is_sound(9, &[]);
        assert_eq!((layout.width, layout.height), (4 * 220 - 20, 3 * 90 - 20));
        let layout = is_sound(4, &[(0, 1)]);
        assert!(layout.boxes[2].y > layout.boxes[0].y);
        assert_eq!(is_sound(0, &[]).width, 0);
    }

    #[test]
    fn circles_and_steps_that_are_not_there_are_left_out() {
        let layout = is_sound(3, &[(0, 1), (1, 0), (1, 1), (1, 2), (2, 0), (0, 1), (7, 0), (0, 9)]);
        assert_eq!(layout.arrows.iter().map(|(a, b, _)| (*a, *b)).collect::<Vec<_>>(), [(0, 1), (1, 2)]);
    }

    #[test]
    fn many_steps_are_placed() {
        // A dense one, and one of pseudo-random edges.
        let all: Vec<_> = (0..12).flat_map(|a| (a + 1..12).map(move |b| (a, b))).collect();
        is_sound(12, &all);
        let mut state = 7_usize;
        let mut next = move |below: usize| {
            state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407) % (1 << 48);
            (state >> 16) % below
        };
        for count in 1..40 {
            let edges: Vec<_> = (0..count * 2).map(|_| (next(count), next(count))).collect();
            is_sound(count, &edges);
        }
    }
}
