//! Users as a CSV file, and what has to be done for the user pool to be as the file says.
//!
//! A line is a row: none of the columns can hold a line break. So a row with an open quotation mark, or in another
//! encoding, is one bad row and not the end of the file, and nothing in a field can become a row of its own.

use std::collections::{BTreeSet, HashMap};

use anyhow::{Context, Result, bail, ensure};

use super::account::{Account, Wish};
use super::address::Address;
use super::directory::no_group;

/// The columns of an export, in its order.
const COLUMNS: [(&str, Column); 6] = [
    ("email", Column::Email),
    ("name", Column::Name),
    ("read", Column::Read),
    ("write", Column::Write),
    ("groups", Column::Groups),
    ("enabled", Column::Enabled),
];

/// Longest `name` that Cognito takes, in characters.
const MAX_NAME: usize = 2048;

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Column {
    Email,
    Name,
    Read,
    Write,
    Groups,
    Enabled,
}

/// A row of a file.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Row {
    /// Its line in the file, from 1.
    pub(crate) line: usize,
    /// The text in the column of the address, for a person to find the row by.
    pub(crate) email: String,
    pub(crate) todo: Todo,
}

/// What to do for a row.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Todo {
    Create { address: Address, wish: Wish },
    Change { account: Box<Account>, wish: Wish },
    Nothing,
    Refused(String),
}

/// Compares a file with the present users. The result has the order of the file.
///
/// If two rows have one address, neither counts: this function does not guess which one is meant.
///
/// # Errors
/// When the header is invalid. Mistakes of a row are in its [`Todo`].
pub(crate) fn plan(file: &[u8], accounts: &[Account], groups: &BTreeSet<String>) -> Result<Vec<Row>> {
    let file = file.strip_prefix(b"\xef\xbb\xbf").unwrap_or(file);
    let lines = file.split(|byte| *byte == b'\n').zip(1..).map(|(line, number)| (line.trim_ascii_end(), number));
    let mut lines = lines.filter(|(line, _)| !line.iter().all(|byte| b",;\" ".contains(byte)));
    let (header, _) = lines.next().context("the file is empty: its first line names the columns")?;
    let header = Header::read(header)?;
    let entries: Vec<_> = lines.map(|(line, number)| header.entry(line, number)).collect();

    let mut lines_of: HashMap<Address, Vec<usize>> = HashMap::new();
    for entry in &entries {
        if let Ok(address) = &entry.address {
            lines_of.entry(address.clone()).or_default().push(entry.line);
        }
    }
    let mut accounts_of: HashMap<String, Vec<&Account>> = HashMap::new();
    for account in accounts {
        accounts_of.entry(account.email.to_ascii_lowercase()).or_default().push(account);
    }
    let rows = entries.into_iter().map(|entry| {
        let Entry { line, email, address, wish } = entry;
        let todo = address.and_then(|address| {
            let lines = lines_of.get(&address).map(Vec::as_slice).unwrap_or_default();
            if lines.len() > 1 {
                let lines: Vec<_> = lines.iter().map(ToString::to_string).collect();
                return Err(format!("the address is in several lines: {}", lines.join(" and ")));
            }
            let wish = wish?;
            if let Some(group) = wish.groups.iter().flatten().find(|group| !groups.contains(*group)) {
                return Err(no_group(group, groups));
            }
            let there = accounts_of.get(address.as_str()).map(Vec::as_slice).unwrap_or_default();
            match there.iter().find(|account| !account.is_federated()) {
                Some(account) => {
                    let changes = account.changes(&wish);
                    match account.refusal(&changes) {
                        Some(reason) => Err(reason),
                        None if changes.is_empty() => Ok(Todo::Nothing),
                        None => Ok(Todo::Change { account: Box::new((*account).clone()), wish }),
                    }
                }
                None if there.is_empty() => Ok(Todo::Create { address, wish }),
                None => Err("an identity provider signs this user in: use `sluice users set`".to_owned()),
            }
        });
        Row { line, email, todo: todo.unwrap_or_else(Todo::Refused) }
    });
    Ok(rows.collect())
}

/// Writes users as a file for which [`plan`] finds nothing to do. Leaves out users of identity providers: elsewhere, [`plan`]
/// would make accounts of the pool's own for them.
///
/// # Errors
/// Never, as writing to memory does not fail; the CSV writer cannot know.
pub(crate) fn export(accounts: &[Account]) -> Result<Vec<u8>> {
    let mut writer = csv::Writer::from_writer(Vec::new());
    writer.write_record(COLUMNS.map(|(name, _)| name))?;
    for account in accounts.iter().filter(|account| !account.is_federated()) {
        let groups = account.groups.iter().map(String::as_str).collect::<Vec<_>>().join(" ");
        let enabled = account.enabled.to_string();
        writer.write_record(COLUMNS.map(|(_, column)| {
            guarded(match column {
                Column::Email => &account.email,
                Column::Name => &account.name,
                Column::Read => &account.read,
                Column::Write => &account.write,
                Column::Groups => &groups,
                Column::Enabled => &enabled,
            })
        }))?;
    }
    Ok(writer.into_inner()?)
}

/// Guards a cell, so that a spreadsheet shows it and does not run it: users choose their names, and `=` begins a formula.
/// Spreadsheets take a leading apostrophe as the mark of a text. [`unguarded`] is the inverse.
pub(crate) fn guarded(cell: &str) -> String {
    if cell.starts_with(begins_formula) { format!("'{cell}") } else { cell.to_owned() }
}

fn unguarded(cell: &str) -> &str {
    cell.strip_prefix('\'').filter(|rest| rest.starts_with(begins_formula)).unwrap_or(cell)
}

/// Includes the apostrophe, so that a name that begins with one keeps it.
fn begins_formula(first: char) -> bool {
    matches!(first, '=' | '+' | '-' | '@' | '\'')
}

/// The first line, which says which column holds what.
struct Header {
    columns: Vec<Column>,
    delimiter: u8,
}

/// A row, read without regard to the others.
struct Entry {
    line: usize,
    email: String,
    address: Result<Address, String>,
    wish: Result<Wish, String>,
}

impl Header {
    fn read(line: &[u8]) -> Result<Self> {
        let text = std::str::from_utf8(line).context("the file is not UTF-8: save it as \"CSV UTF-8\"")?;
        // Spreadsheets separate cells by semicolons where the comma is the decimal sign.
        let delimiter = if text.contains(';') && !text.contains(',') { b';' } else { b',' };
        let mut columns = Vec::new();
        for cell in &fields(line, delimiter)? {
            let name = String::from_utf8_lossy(cell).trim().to_ascii_lowercase();
            let known = COLUMNS.iter().find(|(known, _)| *known == name);
            let (_, column) = known.with_context(|| {
                let known = COLUMNS.map(|(name, _)| name).join(", ");
                format!("there is no column `{}`: the first line names some of {known}", name.escape_debug())
            })?;
            ensure!(!columns.contains(column), "the column `{name}` appears twice");
            columns.push(*column);
        }
        ensure!(columns.contains(&Column::Email), "the column `email` is missing");
        Ok(Self { columns, delimiter })
    }

    fn entry(&self, line: &[u8], number: usize) -> Entry {
        let mut entry = Entry { line: number, email: String::new(), address: Err(String::new()), wish: Err(String::new()) };
        let wish = self.wish(line, &mut entry);
        match wish {
            // If the address is invalid, the refusal gives the reason that hides it.
            Err(reason) if entry.address.is_err() => entry.address = Err(format!("{reason:#}")),
            wish => entry.wish = wish.map_err(|reason| format!("{reason:#}")),
        }
        entry
    }

    /// Reads a row. Notes its address as soon as it is known, since a bad row can have the address of a good one.
    fn wish(&self, line: &[u8], entry: &mut Entry) -> Result<Wish> {
        let record = fields(line, self.delimiter)?;
        let (found, expected) = (record.len(), self.columns.len());
        ensure!(found == expected, "the number of fields is {found}, and the header has {expected}");
        let cells = || self.columns.iter().zip(&record);
        if let Some((_, cell)) = cells().find(|(column, _)| **column == Column::Email) {
            let text = String::from_utf8_lossy(cell);
            let text = unguarded(text.trim());
            entry.email = text.replace(char::is_control, " ");
            entry.address = text.parse::<Address>().map_err(|error| format!("{error:#}"));
        }
        if let Err(error) = std::str::from_utf8(line) {
            let byte = error.valid_up_to() + 1;
            bail!("byte {byte} of the line is not UTF-8: save the file as \"CSV UTF-8\"");
        }
        let mut wish = Wish::default();
        for (column, cell) in cells() {
            let text = unguarded(std::str::from_utf8(cell)?.trim());
            ensure!(!text.contains(char::is_control), "a field has a control character in it");
            let institute = |name: &str| text.parse().with_context(|| format!("{name}: `{text}`"));
            match column {
                Column::Email => {}
                Column::Name => {
                    ensure!(text.chars().count() <= MAX_NAME, "the name has more than {MAX_NAME} characters");
                    wish.name = Some(text.to_owned());
                }
                Column::Read => wish.read = Some(institute("read")?),
                Column::Write => wish.write = Some(institute("write")?),
                Column::Groups => wish.groups = Some(text.split_whitespace().map(str::to_owned).collect()),
                Column::Enabled => {
                    wish.enabled = match text.to_ascii_lowercase().as_str() {
                        "" => None,
                        "true" => Some(true),
                        "false" => Some(false),
                        _ => bail!("enabled: `{text}` is neither true nor false"),
                    }
                }
            }
        }
        Ok(wish)
    }
}

fn fields(line: &[u8], delimiter: u8) -> Result<csv::ByteRecord> {
    ensure!(line.iter().filter(|byte| **byte == b'"').count() % 2 == 0, "a quotation mark is not closed");
    let mut reader = csv::ReaderBuilder::new().has_headers(false).flexible(true).delimiter(delimiter).from_reader(line);
    let mut record = csv::ByteRecord::new();
    reader.read_byte_record(&mut record)?;
    Ok(record)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn account(email: &str, read: &str, write: &str) -> Account {
        let (email, read, write) = (email.to_owned(), read.to_owned(), write.to_owned());
        let (username, status) = (format!("sub of {email}"), "CONFIRMED".to_owned());
        Account { username, email, email_verified: true, read, write, status, ..Account::absent() }
    }

    fn federated(email: &str) -> Account {
        Account { status: "EXTERNAL_PROVIDER".to_owned(), ..account(email, "", "") }
    }

    /// One line for each row: its number, the address and the action.
    fn planned(file: impl AsRef<[u8]>, accounts: &[Account]) -> Vec<String> {
        let groups = BTreeSet::from(["staff".to_owned(), "admins".to_owned()]);
        let rows = plan(file.as_ref(), accounts, &groups).unwrap();
        let changes =
            |account: &Account, wish: &Wish| account.changes(wish).iter().map(ToString::to_string).collect::<Vec<_>>().join(", ");
        let rows = rows.iter().map(|row| {
            let todo = match &row.todo {
                Todo::Create { address, wish } => format!("create {address}: {}", changes(&Account::absent(), wish)),
                Todo::Change { account, wish } => format!("change {}: {}", account.email, changes(account, wish)),
                Todo::Nothing => "nothing".to_owned(),
                Todo::Refused(reason) => reason.clone(),
            };
            format!("{} {}: {todo}", row.line, row.email)
        });
        rows.collect()
    }

    fn refusal(header: &str) -> String {
        format!("{:#}", plan(header.as_bytes(), &[], &BTreeSet::new()).unwrap_err())
    }

    #[test]
    fn a_row_describes_the_wanted_state_of_a_user() {
        let accounts = [account("jane@a.example", "a", "a"), account("Joe@a.example", "a", ""), federated("ann@a.example")];
        let file = "email,read,write,groups,enabled\njane@a.example,a,,,\njoe@A.example,a,,,true\nnew@a.example,,a,staff  admins,\n\
                    ann@a.example,a,a,,\n";
        assert_eq!(
            planned(file, &accounts),
            [
                "2 jane@a.example: change jane@a.example: write a → none",
                "3 joe@A.example: nothing",
                "4 new@a.example: create new@a.example: write none → a, joins admins, joins staff",
                "5 ann@a.example: an identity provider signs this user in: use `sluice users set`",
            ]
        );
        // A missing column changes nothing.
        assert_eq!(planned("READ, Email\na,jane@a.example\n", &accounts), ["2 jane@a.example: nothing"]);
    }

    #[test]
    fn a_row_gives_no_rights_to_an_account_that_may_be_a_strangers() {
        let unproved =
            |email: &str, status: &str| Account { status: status.to_owned(), email_verified: false, ..account(email, "", "a") };
        let accounts = [unproved("jane@a.example", "UNCONFIRMED"), unproved("joe@a.example", "CONFIRMED")];
        let refused = planned("email,read\njane@a.example,a\njoe@a.example,a\n", &accounts);
        assert!(refused[0].starts_with("2 jane@a.example: the sign-up is not confirmed, "), "{refused:?}");
        assert!(refused[1].starts_with("3 joe@a.example: the address is not verified, "), "{refused:?}");
        assert!(planned("email,groups\njane@a.example,staff\n", &accounts)[0].contains("the sign-up is not confirmed"));
        assert_eq!(
            planned("email,name,write\njane@a.example,Jane,\njoe@a.example,,a\n", &accounts),
            ["2 jane@a.example: change jane@a.example: name none → Jane, write a → none", "3 joe@a.example: nothing"]
        );
    }

    #[test]
    fn a_bad_row_spoils_no_other_row() {
        let file = "email,name,read,write,groups\n\
                    jane@a.example,Jane,a\n\
                    jane@@a.example,Jane,a,a,\n\
                    one@a.example,Jane,a/b,a,\n\
                    two@a.example,Jane,a,${aws:PrincipalTag/read},\n\
                    three@a.example,Jane,a,a,nobody\n\
                    four@a.example,\"Jane,a,a,\n\
                    five@a.example,Ja\tne,a,a,\n\
                    good@a.example,\"Doe, Jane\",a,a,\n";
        let institute = "not an institute: expected 1 to 64 letters, digits, `.`, `_` or `-`, beginning with a letter or digit";
        assert_eq!(
            planned(file, &[]),
            [
                "2 : the number of fields is 3, and the header has 5".to_owned(),
                "3 jane@@a.example: `jane@@a.example` is not an e-mail address: an e-mail domain is two or more labels of ASCII letters, \
                 digits and hyphens, joined by dots"
                    .to_owned(),
                format!("4 one@a.example: read: `a/b`: {institute}"),
                format!("5 two@a.example: write: `${{aws:PrincipalTag/read}}`: {institute}"),
                "6 three@a.example: there is no group `nobody`; the user pool has admins, staff".to_owned(),
                "7 : a quotation mark is not closed".to_owned(),
                "8 five@a.example: a field has a control character in it".to_owned(),
                "9 good@a.example: create good@a.example: name none → Doe, Jane, read none → a, write none → a".to_owned(),
            ]
        );
    }

    #[test]
    fn of_two_rows_for_one_address_neither_counts_even_when_one_is_bad() {
        let file =
            b"email,name,read\na@a.example,A,a\nA@a.example,B,b\nb@a.example,M\xfcller,a\nb@a.example,B,a\nc@a.example,C,a\n";
        assert_eq!(
            planned(file, &[]),
            [
                "2 a@a.example: the address is in several lines: 2 and 3",
                "3 A@a.example: the address is in several lines: 2 and 3",
                "4 b@a.example: the address is in several lines: 4 and 5",
                "5 b@a.example: the address is in several lines: 4 and 5",
                "6 c@a.example: create c@a.example: name none → C, read none → a",
            ]
        );
    }

    #[test]
    fn latin_1_bytes_are_refused_where_they_stand() {
        let file = b"email,name\na@a.example,M\xfcller\n\xfc@a.example,B\nc@a.example,M\xc3\xbcller\n";
        assert_eq!(
            planned(file, &[]),
            [
                "2 a@a.example: byte 14 of the line is not UTF-8: save the file as \"CSV UTF-8\"",
                "3 \u{fffd}@a.example: byte 1 of the line is not UTF-8: save the file as \"CSV UTF-8\"",
                "4 c@a.example: create c@a.example: name none → Müller",
            ]
        );
    }

    #[test]
    fn a_csv_file_of_a_spreadsheet_is_read() {
        let windows = "\u{feff}email;name;enabled\r\n\r\na@a.example;\"Doe; Jane \"\"J\"\"\";TRUE\r\n;;\r\nb@a.example;B;FALSE";
        assert_eq!(
            planned(windows, &[]),
            [
                "3 a@a.example: create a@a.example: name none → Doe; Jane \"J\"",
                "5 b@a.example: create b@a.example: name none → B, disabled",
            ]
        );
    }

    #[test]
    fn an_unusable_header_line_refuses_the_whole_file() {
        assert!(refusal("").contains("the file is empty"));
        assert!(refusal("\n\n").contains("the file is empty"));
        assert!(refusal("email,institute\n").contains("there is no column `institute`"));
        assert!(refusal("name,read\n").contains("the column `email` is missing"));
        assert!(refusal("email,read,Read\n").contains("the column `read` appears twice"));
        assert!(refusal("jane@a.example,Jane,a,a\n").contains("there is no column `jane@a.example`"));
        let utf_16: Vec<u8> = "\u{feff}email\n".encode_utf16().flat_map(u16::to_le_bytes).collect();
        assert!(format!("{:#}", plan(&utf_16, &[], &BTreeSet::new()).unwrap_err()).contains("not UTF-8"));
    }

    #[test]
    fn importing_an_export_changes_nothing() {
        let mut accounts = vec![account("a@a.example", "a", ""), account("+b@a.example", "", "b")];
        let names = ["Doe, \"Jane\"", "=HYPERLINK(\"http://evil.example\")", "@SUM(1)", "-1", "'=x", "'tis", "''", "Müller; Ä"];
        for (name, number) in names.iter().zip(1..) {
            let mut account = account(&format!("{number}@a.example"), "a", "a");
            account.name = (*name).to_owned();
            account.enabled = number % 2 == 0;
            account.groups = BTreeSet::from(["staff".to_owned(), "admins".to_owned()]);
            accounts.push(account);
        }
        let file = export(&accounts).unwrap();
        let cells = csv::Reader::from_reader(file.as_slice());
        for cell in cells.into_byte_records().flat_map(|record| record.unwrap().iter().map(<[u8]>::to_vec).collect::<Vec<_>>()) {
            assert!(!cell.starts_with(b"=") && !cell.starts_with(b"+") && !cell.starts_with(b"-") && !cell.starts_with(b"@"));
        }
        let todo: Vec<_> = planned(&file, &accounts).iter().map(|row| row.split(": ").nth(1).unwrap().to_owned()).collect();
        assert_eq!(todo, vec!["nothing"; accounts.len()]);
        // In another deployment, the file creates the same users.
        let groups = BTreeSet::from(["staff".to_owned(), "admins".to_owned()]);
        for (row, account) in plan(&file, &[], &groups).unwrap().iter().zip(&accounts) {
            let Todo::Create { wish, .. } = &row.todo else { panic!("{row:?}") };
            assert_eq!((wish.name.as_ref(), wish.enabled), (Some(&account.name), Some(account.enabled)));
        }
        assert_eq!(export(&[federated("f@a.example")]).unwrap(), b"email,name,read,write,groups,enabled\n");
    }
}
