//! Texts that may hold a password, made fit to be shown. Not for: keeping anything secret from who may read the settings.

/// What stands for a password.
pub(crate) const HIDDEN: &str = "***";

/// Returns a URL, or a list of `key=value`, without its password.
pub(crate) fn hidden(text: &str) -> String {
    let lower = text.to_ascii_lowercase();
    if let Some(key) = lower.find("password") {
        // In quotes or not, escaped or not: what follows is left out as a whole.
        return format!("{}{HIDDEN}", hidden(&text[..key]));
    }
    let Some((scheme, rest)) = text.split_once("://") else { return text.to_owned() };
    // A password may hold what it should not, even an @.
    let Some((said, place)) = rest.rsplit_once('@') else { return text.to_owned() };
    match said.split_once(':') {
        Some((user, _)) => format!("{scheme}://{user}:{HIDDEN}@{place}"),
        None => text.to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn passwords_are_not_shown() {
        let table = [
            ("postgresql://reflex@db/shop", "postgresql://reflex@db/shop"),
            ("postgresql://reflex:geheim@db:5432/shop?plan=1", "postgresql://reflex:***@db:5432/shop?plan=1"),
            ("mysql://reflex:ge/he@im@db/", "mysql://reflex:***@db/"),
            ("postgresql:///shop?user=u&password=geheim", "postgresql:///shop?user=u&***"),
            ("host=db Password = 'ge heim' user=u", "host=db ***"),
            ("postgresql://u:geheim@db/?password=x", "postgresql://u:***@db/?***"),
            ("host=db user=u", "host=db user=u"),
            ("", ""),
        ];
        for (text, shown) in table {
            assert_eq!(hidden(text), shown, "{text}");
        }
    }
}
