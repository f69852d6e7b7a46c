//! Who is let in, and how the others are told.

use std::time::Duration;

use atoti_grpc_bridge::simulator::{Options, Simulator};

use super::{ADMIN, GUEST, HISTORY, USER, exceptions, get, open, send, start, start_query};

const PING: &str = "/activeviam/pivot/rest/v10/ping";
const TOKEN: &str = "/activeviam/jwt/rest/v3/token";

async fn secured() -> Simulator {
    start(Options::default()).await
}

async fn token(atoti: &Simulator, login: (&str, &str)) -> String {
    let answer = send(atoti, "GET", TOKEN, &[login], "").await;
    answer.json()["token"].as_str().expect("a token").to_owned()
}

async fn ping(atoti: &Simulator, authorization: &str) -> (u16, Option<String>, usize) {
    let answer = send(atoti, "GET", PING, &[("authorization", authorization)], "").await;
    (answer.status.as_u16(), answer.header("www-authenticate").map(str::to_owned), answer.body.len())
}

#[tokio::test]
async fn only_the_versions_are_public() {
    let atoti = secured().await;
    assert_eq!(get(&atoti, "/versions/rest").await.status, 200);
    for target in [PING, TOKEN, &format!("{HISTORY}/queries"), "/no/such/page"] {
        let answer = get(&atoti, target).await;
        assert_eq!((answer.status.as_u16(), answer.body.len()), (401, 0), "{target}");
        assert_eq!(answer.header("www-authenticate"), None, "{target}");
    }
}

#[tokio::test]
async fn a_wrong_password_is_challenged_and_a_wrong_scheme_is_not() {
    let atoti = secured().await;
    let challenge = Some("Basic realm=\"Realm\"".to_owned());
    // user:wrong, nobody:user, nothing on either side of the colon, no base64.
    for wrong in ["dXNlcjp3cm9uZw==", "bm9ib2R5OnVzZXI=", "Og==", "!!!"] {
        assert_eq!(ping(&atoti, &format!("Basic {wrong}")).await, (401, challenge.clone(), 0), "{wrong}");
    }
    for unknown in ["Digest username=user", "user:user", "Bearer not-a-token", "Jwt a.b.c"] {
        assert_eq!(ping(&atoti, unknown).await, (401, None, 0), "{unknown}");
    }
    assert_eq!(send(&atoti, "GET", PING, &[USER], "").await.text(), "pong");
}

#[tokio::test]
async fn a_token_logs_in_under_either_name_and_is_given_back_when_it_asks() {
    let atoti = secured().await;
    let token = token(&atoti, USER).await;
    assert_eq!(token.split('.').count(), 3, "a JSON Web Token");
    for scheme in ["Bearer", "Jwt", "bearer", "JWT"] {
        let authorization = format!("{scheme} {token}");
        assert_eq!(ping(&atoti, &authorization).await, (200, None, 4), "{scheme}");
        let again = send(&atoti, "GET", TOKEN, &[("authorization", &authorization)], "").await;
        assert_eq!(again.json()["token"], token.as_str(), "{scheme}");
    }
}

#[tokio::test]
async fn a_token_that_was_changed_or_has_expired_is_refused() {
    let atoti = secured().await;
    let token = token(&atoti, USER).await;
    let (head, rest) = token.split_once('.').expect("a head");
    let (_, signature) = rest.split_once('.').expect("claims");
    // {"sub":"user","authorities":["ROLE_ADMIN"],"iat":0,"exp":9999999999}
    let claims =
        "eyJzdWIiOiJ1c2VyIiwiYXV0aG9yaXRpZXMiOlsiUk9MRV9BRE1JTiJdLCJpYXQiOjAsImV4cCI6OTk5OTk5OTk5OX0";
    assert_eq!(ping(&atoti, &format!("Bearer {head}.{claims}.{signature}")).await, (401, None, 0));
    let strange = start(Options { seed: 1, ..Options::default() }).await;
    assert_eq!(ping(&strange, &format!("Bearer {token}")).await, (401, None, 0), "another server's");
    let brief = start(Options { token_lifetime: Duration::ZERO, ..Options::default() }).await;
    let expired = self::token(&brief, USER).await;
    assert_eq!(ping(&brief, &format!("Bearer {expired}")).await, (401, None, 0));
}

#[tokio::test]
async fn a_guest_may_not_look_and_a_user_may_not_delete() {
    let atoti = secured().await;
    let id = start_query(&atoti);
    assert!(atoti.history().finish(&id));
    let query = format!("{HISTORY}/query/{id}");
    let looked = send(&atoti, "GET", &query, &[GUEST], "").await;
    assert_eq!((looked.status.as_u16(), looked.json()["error"].as_str()), (403, Some("Forbidden")));
    let guests = token(&atoti, GUEST).await;
    assert_eq!(ping(&atoti, &format!("Bearer {guests}")).await.0, 403, "a token carries its owner's roles");
    for target in [&query, &format!("{HISTORY}/queries")] {
        let refused = send(&atoti, "DELETE", target, &[USER], "").await;
        assert_eq!((refused.status.as_u16(), refused.json()["path"].as_str()), (403, Some(&**target)));
    }
    assert_eq!(atoti.history().count(), 1);
    let admins = format!("Bearer {}", token(&atoti, ADMIN).await);
    assert_eq!(send(&atoti, "DELETE", &query, &[("authorization", &admins)], "").await.status, 204);
    let gone = send(&atoti, "GET", &query, &[USER], "").await;
    assert_eq!(gone.status, 404);
    assert_eq!(exceptions(&gone)[0], "NotFoundException");
}

#[tokio::test]
async fn without_security_everybody_is_an_administrator_and_there_are_no_tokens() {
    let atoti = open().await;
    assert_eq!(get(&atoti, PING).await.text(), "pong");
    assert_eq!(get(&atoti, TOKEN).await.status, 404);
    assert_eq!(send(&atoti, "DELETE", &format!("{HISTORY}/queries"), &[], "").await.status, 204);
}
