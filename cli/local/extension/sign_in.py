"""User pools: the session that ties a challenge to its user."""

import json
import time
import uuid

from .replacing import wrap

SESSION_SECONDS = 180
SESSION_CHALLENGES = ("NEW_PASSWORD_REQUIRED", "SOFTWARE_TOKEN_MFA", "MFA_SETUP")


def challenge_sessions():
    """Only the user who got a challenge can answer it, with its Session, within three minutes.

    AWS, "RespondToAuthChallenge": the Session identifies the sign-in in progress. MiniStack accepts any name with a
    challenge, so that a caller could get anybody's tokens. If a pool's MfaConfiguration is ON, it challenges a user
    without a second factor with MFA_SETUP: AssociateSoftwareToken and VerifySoftwareToken take that Session, and only
    the Session from the latter signs in. AWS's sign-in pages ask for the second factor too; here they have no page
    for it, and refuse users who need one.
    """
    from ministack.core.responses import error_response_json, json_response
    from ministack.services import cognito

    sessions = {}

    def refused():
        return error_response_json("NotAuthorizedException", "Invalid session for the user.", 400)

    def remember(answer, pool_id, client_id, user):
        """Returns the answer. If it is a challenge, remembers its Session."""
        body = json.loads(answer[2])
        if body.get("ChallengeName") in SESSION_CHALLENGES:
            sessions[body["Session"]] = {
                "challenge": body["ChallengeName"], "pool": pool_id, "client": client_id, "user": user["Username"],
                "until": time.time() + SESSION_SECONDS, "verified": False}
        return answer

    def second_factor(pool, pool_id, user):
        """The challenge between a user with the right password and their tokens, or None."""
        challenge = cognito._mfa_challenge_for_user(pool, user, pool_id, user["Username"])
        if challenge is None and pool.get("MfaConfiguration") == "ON":
            challenge = {"ChallengeName": "MFA_SETUP", "Session": uuid.uuid4().hex, "ChallengeParameters": {
                "USER_ID_FOR_SRP": user["Username"], "MFAS_CAN_SETUP": '["SOFTWARE_TOKEN_MFA"]'}}
        return challenge and json_response(challenge)

    def make_password(original):
        def password_auth_result(pool, pool_id, client_id, user, *more, **named):
            answer = original(pool, pool_id, client_id, user, *more, **named)
            if "AuthenticationResult" in json.loads(answer[2]):
                answer = second_factor(pool, pool_id, user) or answer
            return remember(answer, pool_id, client_id, user)
        return password_auth_result

    def make_respond(original):
        def respond(data):
            name = data.get("ChallengeName")
            if name not in SESSION_CHALLENGES:
                return original(data)
            client_id, session = data.get("ClientId"), sessions.get(data.get("Session"))
            pool, pool_id = cognito._pool_for_client(client_id)
            if not session or not pool or session["until"] < time.time():
                return refused()
            user = cognito._resolve_user(pool, (data.get("ChallengeResponses") or {}).get("USERNAME"))[0]
            given = (name, pool_id, client_id, user and user["Username"])
            if given != tuple(session[part] for part in ("challenge", "pool", "client", "user")):
                return refused()
            if name == "MFA_SETUP" and not session["verified"]:
                return error_response_json("InvalidParameterException", "User must have MFA set up first.", 400)
            if name == "NEW_PASSWORD_REQUIRED":
                error = cognito._validate_password(
                    pool, (data.get("ChallengeResponses") or {}).get("NEW_PASSWORD") or "")
                if error:
                    return error
            answer = original(data)
            if answer[0] < 400:
                del sessions[data["Session"]]
                if name == "NEW_PASSWORD_REQUIRED":
                    return remember(second_factor(pool, pool_id, user) or answer, pool_id, client_id, user)
            return answer
        return respond

    def setting_up(data):
        """The MFA_SETUP session of a request without an access token, if it is one."""
        session = sessions.get(data.get("Session"))
        usable = session and session["challenge"] == "MFA_SETUP" and session["until"] > time.time()
        return session if usable and not data.get("AccessToken") else None

    def make_associate(original):
        def associate_software_token(data):
            session = setting_up(data)
            if not session and not data.get("AccessToken"):
                return refused()
            answer = original(data)
            if session:
                sessions[json.loads(answer[2])["Session"]] = sessions.pop(data["Session"])
            return answer
        return associate_software_token

    def make_verify(original):
        def verify_software_token(data):
            session = setting_up(data)
            if not session and not data.get("AccessToken"):
                return refused()
            secret = cognito._totp_session_secrets.get(data.get("Session"))
            answer = original(data)
            if session and answer[0] < 400:
                user = cognito._get_pool_unscoped(session["pool"])["_users"][session["user"]]
                user["_totp_secret"] = secret
                user["_mfa_enabled"] = ["SOFTWARE_TOKEN_MFA"]
                sessions[json.loads(answer[2])["Session"]] = {**sessions.pop(data["Session"]), "verified": True}
            return answer
        return verify_software_token

    def make_page(original):
        def authenticate_hosted_ui_user(pool, username, password):
            user, message = original(pool, username, password)
            if user and (pool.get("MfaConfiguration") == "ON" or
                         cognito._mfa_challenge_for_user(pool, user, pool["Id"], username)):
                return None, "A second factor is needed, and the local pages cannot ask for it."
            return user, message
        return authenticate_hosted_ui_user

    wrap(cognito, "_password_auth_result", make_password)
    wrap(cognito, "_respond_to_auth_challenge", make_respond)
    wrap(cognito, "_admin_respond_to_auth_challenge", make_respond)
    wrap(cognito, "_associate_software_token", make_associate)
    wrap(cognito, "_verify_software_token", make_verify)
    wrap(cognito, "_authenticate_hosted_ui_user", make_page)
