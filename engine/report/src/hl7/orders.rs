//! The groups of an ORU: an order with its observations (`ORDER_OBSERVATION`; HL7 v2.5.1, 7.3.1).
//!
//! Laboratory rows whose order is known stand below an OBR of their own for each order, with what
//! the engine itself concludes below the last one. So a row that is passed on as the laboratory has
//! stated it keeps the status of the laboratory, and nothing that a machine concluded shares it
//! (HL7-51). Each OBR has a number of the engine in OBR-3 and names the order in OBR-29: under the
//! numbers of the laboratory, a receiver would take it for the laboratory's own (HL7-64).

use domain::{LabRow, LaboratoryOrder, NoResult, Order, OrderNumber, ResultSet, derived_uid};
use encoding::hl7::escape::Delimiters;
use serde::Serialize;

use crate::hl7::laboratory::{self, LabView};
use crate::input::ReportInput;
use crate::layout::narrative::ReportType;

/// Digits of a number of the engine in OBR-3.
const FILLER_DIGITS: usize = 20;

/// The statuses of a message.
pub(crate) struct Statuses {
    /// OBR-25 (table 0123).
    pub(crate) order: &'static str,
    /// OBX-11 (table 0085).
    pub(crate) observation: &'static str,
}

impl Statuses {
    /// The statuses of the result. A signed one that takes the place of a final one is a
    /// correction; a draft is preliminary however often it is sent.
    pub(crate) fn of(input: &ReportInput<'_>) -> Self {
        if input.is_correction() {
            return Self { order: "C", observation: "C" };
        }
        Self { order: input.status.order, observation: input.status.observation }
    }
}

/// ORC and OBR of an order.
#[derive(Serialize)]
pub(crate) struct OrderRow {
    pub(crate) placer: String,
    pub(crate) filler: String,
    /// EI of the numbers, delimiters included: with what assigned them.
    pub(crate) placer_identifier: String,
    pub(crate) filler_identifier: String,
    pub(crate) accession: String,
    pub(crate) requested_procedure: String,
    pub(crate) code: String,
    pub(crate) text: String,
    pub(crate) scheme: String,
    /// OBR-7; empty where a laboratory states no time.
    pub(crate) observed: String,
    /// OBR-8, where rows are of several times.
    pub(crate) observed_until: String,
    /// SPM-4.2: the specimen, where all rows are of the same.
    pub(crate) specimen: String,
}

/// An order with its observations.
#[derive(Serialize)]
pub(crate) struct GroupView {
    pub(crate) order: OrderRow,
    /// OBR-25.
    pub(crate) status: &'static str,
    /// OBR-29 and ORC-8, delimiters included: the order of the laboratory that its rows answer.
    pub(crate) parent: String,
    /// Whether what the engine itself states belongs here: findings, measurements, the document.
    pub(crate) is_own: bool,
    pub(crate) laboratory: Vec<LabView>,
}

/// The rows of one order of a laboratory.
struct LaboratoryGroup<'a> {
    order: &'a LaboratoryOrder,
    rows: Vec<LabRow>,
    /// Rows that people have taken out.
    former: Vec<LabRow>,
}

/// The groups of a message: first those of the laboratory's orders, then the report itself.
pub(crate) fn groups(
    input: &ReportInput<'_>,
    statuses: &Statuses,
    time: &str,
    has_former_rows: bool,
) -> Vec<GroupView> {
    let former = input.context.taken_out.rows.iter().filter(|_| has_former_rows);
    let former: Vec<&LabRow> = former.collect();
    let of_laboratory = by_order(&input.results.laboratory, &former);
    let mut groups: Vec<GroupView> =
        of_laboratory.iter().map(|it| laboratory_group(input, statuses, it)).collect();
    let is_own = |it: &&LabRow| order_of(it).is_none();
    let own: Vec<LabRow> = input.results.laboratory.iter().filter(is_own).cloned().collect();
    let own_former: Vec<LabRow> = former.into_iter().filter(is_own).cloned().collect();
    groups.extend(orders(input, time).into_iter().map(|order| {
        let mut rows = laboratory::stated(input, statuses.observation, &own);
        rows.extend(laboratory::deleted(input, &own_former));
        GroupView {
            order,
            status: statuses.order,
            parent: String::new(),
            is_own: true,
            laboratory: rows,
        }
    }));
    groups
}

/// The order of a row, if it has a number.
fn order_of(row: &LabRow) -> Option<&LaboratoryOrder> {
    row.source.as_ref().map(|it| &it.order).filter(|it| it.key().is_some())
}

/// Rows by their order, in the order of the rows.
fn by_order<'a>(rows: &'a [LabRow], former: &[&'a LabRow]) -> Vec<LaboratoryGroup<'a>> {
    let mut groups: Vec<LaboratoryGroup<'a>> = Vec::new();
    let kept = rows.iter().map(|it| (it, false));
    for (row, is_former) in kept.chain(former.iter().map(|it| (*it, true))) {
        let Some(order) = order_of(row) else { continue };
        let place = groups.iter().position(|it| it.order.key() == order.key());
        let place = place.unwrap_or_else(|| {
            groups.push(LaboratoryGroup { order, rows: Vec::new(), former: Vec::new() });
            groups.len() - 1
        });
        if let Some(group) = groups.get_mut(place) {
            let rows = if is_former { &mut group.former } else { &mut group.rows };
            rows.push(row.clone());
        }
    }
    groups
}

fn laboratory_group(
    input: &ReportInput<'_>,
    statuses: &Statuses,
    group: &LaboratoryGroup<'_>,
) -> GroupView {
    let LaboratoryGroup { order, rows, former } = group;
    let span = laboratory::span(rows);
    let last = span.as_ref().filter(|it| it.first != it.last);
    let filler = filler_of(input.results, order);
    let code = ReportType::Laboratory.code();
    let mut stated = laboratory::stated(input, statuses.observation, rows);
    let status = order_status(input, statuses, &stated);
    stated.extend(laboratory::deleted(input, former));
    GroupView {
        order: OrderRow {
            placer: String::new(),
            filler: filler.clone(),
            placer_identifier: String::new(),
            filler_identifier: filler,
            accession: order.accession.clone(),
            requested_procedure: String::new(),
            code: code.value,
            text: code.meaning,
            scheme: code.scheme,
            observed: span.as_ref().map(|it| it.first.text.clone()).unwrap_or_default(),
            observed_until: last.map(|it| it.last.text.clone()).unwrap_or_default(),
            specimen: laboratory::specimen(rows),
        },
        status,
        parent: parent(order),
        is_own: false,
        laboratory: stated,
    }
}

/// OBR-25 (table 0123): an order is as final as the least final of its rows.
fn order_status(input: &ReportInput<'_>, statuses: &Statuses, rows: &[LabView]) -> &'static str {
    if input.status.is_withdrawn || rows.is_empty() {
        return statuses.order;
    }
    let has = |codes: &[&str]| rows.iter().any(|it| codes.contains(&it.status));
    let is_cancelled = rows.iter().all(|it| it.status == NoResult::Unobtainable.status());
    let unfinished = ["R", "P"].into_iter().find(|it| has(&[*it]));
    let corrected = [NoResult::Deleted.status(), NoResult::Wrong.status(), "C"];
    match unfinished {
        Some(status) => status,
        None if has(&corrected) => "C",
        None if is_cancelled => "X",
        None => "F",
    }
}

/// The number of the engine for the rows of an order: the same in every version of a report
/// (HL7-53).
fn filler_of(results: &ResultSet, order: &LaboratoryOrder) -> String {
    let run = results.known_as().to_string();
    let mut parts = vec!["laboratory order", &run];
    parts.extend(order.key().into_iter().flatten());
    let uid = derived_uid(&parts);
    let number: u128 = uid.rsplit('.').next().and_then(|it| it.parse().ok()).unwrap_or_default();
    format!("{number:032x}").chars().take(FILLER_DIGITS).collect()
}

/// The numbers of an order as EIP (HL7 v2.5.1, 2.A.29): those of the placer, and of the laboratory.
fn parent(order: &LaboratoryOrder) -> String {
    let part = |number: &OrderNumber| {
        let parts = number.parts().map(escaped).join("&");
        parts.trim_end_matches('&').to_owned()
    };
    format!("{}^{}", part(&order.placer), part(&order.filler)).trim_end_matches('^').to_owned()
}

/// One row per order; without an order a row of the engine's own, so that the report can be filed
/// (HL7-42, DIN-65).
pub(crate) fn orders(input: &ReportInput<'_>, time: &str) -> Vec<OrderRow> {
    let ReportInput { results, context, .. } = input;
    let is_laboratory = !results.laboratory.is_empty();
    let study = context.study.clone().unwrap_or_default();
    let observed = match (study.date.as_str(), study.time.get(..6)) {
        // The time of processing is not that of a specimen.
        ("", _) if is_laboratory => String::new(),
        ("", _) => time.to_owned(),
        (date, Some(time)) => format!("{date}{time}"),
        (date, None) => date.to_owned(),
    };
    let report_type = ReportType::of(input);
    match report_type {
        ReportType::Imaging if !context.orders.is_empty() => {
            let orders = context.orders.iter();
            orders.map(|order| order_row(order, results, &study.accession, &observed)).collect()
        }
        // A table made by a machine is never sent under the numbers of the laboratory (HL7-64).
        ReportType::Imaging | ReportType::Laboratory => {
            let code = report_type.code();
            let span = laboratory::span(&results.laboratory);
            let last = span.as_ref().filter(|it| it.first != it.last);
            vec![OrderRow {
                placer: String::new(),
                filler: own_filler(results),
                placer_identifier: String::new(),
                filler_identifier: own_filler(results),
                accession: study.accession,
                requested_procedure: String::new(),
                code: code.value,
                text: code.meaning,
                scheme: code.scheme,
                observed: span.as_ref().map_or(observed, |it| it.first.text.clone()),
                observed_until: last.map(|it| it.last.text.clone()).unwrap_or_default(),
                specimen: laboratory::specimen(&results.laboratory),
            }]
        }
    }
}

fn order_row(order: &Order, results: &ResultSet, accession: &str, observed: &str) -> OrderRow {
    let key = &order.key;
    // What adds to the report of an earlier run does not replace it under the number of the order.
    let is_addition = results.amends.is_some_and(|it| !it.is_replaced);
    let own = OrderNumber { number: own_filler(results), ..OrderNumber::default() };
    let has_filler = !key.filler.is_empty() && !is_addition;
    let filler = if has_filler { &key.filler } else { &own };
    let has_accession = !key.accession.is_empty();
    OrderRow {
        placer: key.placer.number.clone(),
        filler: filler.number.clone(),
        placer_identifier: entity_identifier(&key.placer),
        filler_identifier: entity_identifier(filler),
        accession: if has_accession { key.accession.clone() } else { accession.to_owned() },
        requested_procedure: key.requested_procedure.clone(),
        code: order.procedure_code.clone(),
        text: order.procedure.clone(),
        scheme: order.procedure_scheme.clone(),
        observed: observed.to_owned(),
        observed_until: String::new(),
        specimen: String::new(),
    }
}

/// An order number as EI (HL7 v2.5.1, 2.A.28): its receiver finds the order by all of it.
fn entity_identifier(number: &OrderNumber) -> String {
    let parts = number.parts().map(escaped).join("^");
    parts.trim_end_matches('^').to_owned()
}

/// The filler number of the engine. The same report always has the same number, so that a receiver
/// replaces it (HL7-53).
pub(crate) fn own_filler(results: &ResultSet) -> String {
    results.known_as().simple().to_string().chars().take(20).collect()
}

fn escaped(text: &str) -> String {
    Delimiters::default().escaped(text)
}
