//! More layouts of reports: history, two languages, columns without rules, flags before results.

use super::{PaperRow, Sheet, side_by_side};

/// Three dated columns: the newest result stands between two older ones.
pub(super) fn history(sheet: &mut Sheet, rows: &[PaperRow], before: &[Vec<PaperRow>; 2]) {
    let columns = [50.0, 215.0, 285.0, 355.0, 425.0, 490.0];
    let headings = ["Test", "02.11.2025", "14.01.2026", "20.06.2025", "Unit", "Reference"];
    sheet.headings(&columns, &headings);
    sheet.next_line();
    sheet.rule(46.0, 560.0);
    for (index, row) in rows.iter().enumerate() {
        sheet.row = Some(index);
        let [second, third] = before.each_ref().map(|it| it.get(index).map_or("", |it| &it.result));
        let PaperRow { name, result, reference, unit, .. } = row;
        sheet.cells(&columns, [name.as_str(), second, result, third, unit, reference]);
        sheet.next_line();
    }
}

/// Headings in both languages, and a rule below each row.
pub(super) fn mixed(sheet: &mut Sheet, rows: &[PaperRow]) {
    let columns = [50.0, 215.0, 300.0, 370.0, 470.0];
    let headings = ["项目(Item)", "结果(Result)", "提示", "参考区间", "单位(Unit)"];
    sheet.rule(46.0, 550.0);
    sheet.headings(&columns, &headings);
    sheet.next_line();
    for (index, row) in rows.iter().enumerate() {
        sheet.row = Some(index);
        sheet.rule(46.0, 550.0);
        let flag = match row.flag.as_str() {
            "偏高" => "H",
            "偏低" => "L",
            it => it,
        };
        let PaperRow { name, result, reference, unit, .. } = row;
        sheet.cells(&columns, [name.as_str(), result, flag, reference, unit]);
        sheet.next_line();
    }
    sheet.rule(46.0, 550.0);
}

/// Two tables side by side, in small letters.
pub(super) fn columns(sheet: &mut Sheet, rows: &[PaperRow]) {
    sheet.size = 7.0;
    let columns = [30.0, 158.0, 197.0, 240.0];
    let shifts = [0.0, 285.0];
    for shift in shifts {
        for (x, text) in columns.into_iter().zip(["Analyte", "Value", "Unit", "Range"]) {
            sheet.heading(x + shift, text);
        }
    }
    sheet.next_line();
    side_by_side(sheet, columns, shifts, rows);
}

/// The flag before the result, the name last.
pub(super) fn flagged(sheet: &mut Sheet, rows: &[PaperRow]) {
    sheet.pitch = sheet.size * 1.4;
    let columns = [50.0, 95.0, 165.0, 245.0, 340.0];
    sheet.rule(46.0, 550.0);
    sheet.headings(&columns, &["Flag", "Result", "Units", "Reference range", "Test"]);
    sheet.next_line();
    sheet.rule(46.0, 550.0);
    for (index, row) in rows.iter().enumerate() {
        sheet.row = Some(index);
        let PaperRow { name, result, reference, unit, flag } = row;
        sheet.cells(&columns, [flag, result, unit, reference, name]);
        sheet.next_line();
    }
    sheet.rule(46.0, 550.0);
}
